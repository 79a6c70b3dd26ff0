"""The page that shows a design; reads what the design wrote."""
