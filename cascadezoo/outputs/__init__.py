"""What ``cascadezoo predict --save`` writes of detections: pictures, masks, tables, and files for labelling programs."""
