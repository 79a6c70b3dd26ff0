"""The whole job, from images, a device and a budget to a measured network; its journal and resume."""
