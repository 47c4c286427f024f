"""The network's modules, in the order of data flow: preprocess, then resnet or internimage, fpn, rpn, box_head,
postprocess and mask_head; network runs them, build puts them together, tta runs several passes."""
