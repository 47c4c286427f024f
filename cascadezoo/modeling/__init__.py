"""The network's modules, in data-flow order: preprocess, resnet, fpn, rpn, box_head, roi_heads, mask_head, detector."""
