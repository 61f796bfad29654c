"""What training needs beside the networks: targets of a detector, losses, metrics, and a classifier's backbone."""
