"""The tables of the paper, trained and tested here."""
