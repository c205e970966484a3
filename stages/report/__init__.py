"""The filter report: one self-contained page that says where rows went, which rule took them, and what if."""
