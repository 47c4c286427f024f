"""The network's modules, in the order of data flow: preprocess, then one of the backbones, fpn or simple_pyramid, rpn,
box_head, postprocess and mask_head; network runs them, build puts them together, tta runs several passes."""
