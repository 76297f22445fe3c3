"""Small sample models with their cards, and the scripts that trained and exported them. Nothing here is installed."""
