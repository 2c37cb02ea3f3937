"""The graph of a network: operations, values, rules, the builder, the verifier, the text form."""
