"""The paper's stages as one resumable pipeline: fine-tune, noise, head, unfreeze, evaluate; and its tables and figures."""
