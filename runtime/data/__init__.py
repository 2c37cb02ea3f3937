"""Data: data sets by name (``open_data``), batches, and checks that data fit a network.

Importing this package does not import torch.
"""
