"""Relevance handed back node by node: LRP, Taylor decompositions, DeepLIFT."""
