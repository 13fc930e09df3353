"""The table of operations, importers and exits: `python -m thumbnet.support_table > docs/support.md`."""

from thumbnet.support_table.page import support_page

__all__ = ["support_page"]
