"""cli/network_picture: a network and its unit sets, drawn and as a page. Knows reports, graphs and charts."""
