"""Test sets of overlapping real people, composed from the people of one COCO keypoint file."""
