from thumbnet.support_table.page import support_page

print(support_page(), end="")
