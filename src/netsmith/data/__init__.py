"""Reading image sets, splits, augmentation."""
