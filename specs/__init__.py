"""The shipped networks, one ``.danet`` file each."""
