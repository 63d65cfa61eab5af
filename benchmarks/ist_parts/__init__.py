"""Problems on which the theory of independent subnets can be checked by numbers."""
