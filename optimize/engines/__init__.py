"""From an exported graph to engines: lower precision by casting the graph, and TensorRT's builders."""
