"""The site's own Sphinx extension: pages made from the values that they are about.

before reading     mechanisms/NAME.md, mechanisms/index.md, api/NAME.md and tutorial.ipynb are written
while reading      docstrings become reStructuredText, `{picture}` becomes the drawing of a mask
while writing      LaTeX becomes MathML
"""
