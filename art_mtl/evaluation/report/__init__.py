"""How results are shown: tables, data frames, figures, pictures, files; names that are harmless in all of them."""
