"""A Flower app around `sam3d_objects.federated`."""
