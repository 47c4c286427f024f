"""What ``cascadezoo predict --save`` writes: pictures, masks, tables, and files for programs that label and train."""
