# Not the paper's: whole-picture context and layers on a coarser grid.
_base_ = ['../rnnpose_context_{{$ABLATION_DATA:coco}}.py']
