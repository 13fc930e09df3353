"""Lossless rewrites. Each pass is a function from graph to graph that states what it keeps."""
