"""What the user gets back: numbers with error bars, where they came from, and how to ask for them."""
