"""How much of a text a model is to see: what lies far beyond its window is not even tokenized."""

CHARACTERS_PER_TOKEN = 64
"""Far more than any tokenizer needs on average."""
CHARACTERS_AT_MOST = 1_000_000
TOKENS_AROUND_A_CUT = 8
"""Where a text was cut, its last tokens may be others than in the whole text."""
