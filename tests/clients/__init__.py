"""Shipped files in the programs that apps are made of: a browser, ONNX Runtime's mobile tools, MediaPipe."""
