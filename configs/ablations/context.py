# Not the paper's: whole-picture context and a coarser grid for the decoder.
_base_ = ['../rnnpose_context_{{$ABLATION_DATA:coco}}.py']
