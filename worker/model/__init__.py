"""The network, its checkpoint format and its ONNX export."""
