"""The Cython kernels, each named after the module that holds its NumPy reference; only `rcnn._backend` imports them."""
