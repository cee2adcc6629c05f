"""What ci/matrix is made of: the systems as data, what they need, how they are started, what came of them."""
