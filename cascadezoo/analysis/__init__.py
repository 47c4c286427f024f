"""What results on a data set tell beyond their average precision: by class, by kind of error, image by image."""
