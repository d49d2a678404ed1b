"""The tables of the paper, printed and measured."""
