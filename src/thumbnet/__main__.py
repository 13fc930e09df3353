"""`python -m thumbnet`."""

from thumbnet.cli import main

main()
