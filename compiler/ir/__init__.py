"""The graph of a network: operations, values, inference, the rewriter, the text form."""
