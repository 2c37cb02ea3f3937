"""The standard library: what ``use std`` brings."""
