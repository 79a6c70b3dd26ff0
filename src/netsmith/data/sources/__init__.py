"""One reader a format; :func:`netsmith.data.load` picks among them."""
