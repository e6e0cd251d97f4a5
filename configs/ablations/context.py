# Not the paper's: every cell is told of the whole picture.
_base_ = ['../rnnpose_context_{{$ABLATION_DATA:coco}}.py']
