; Written by `python -m editors.highlighting` from the tables of the compiler.

(comment) @comment
(string) @string
(number) @number
(kind) @keyword
(declaration name: (identifier) @type)
(parameter name: (identifier) @variable.parameter)
(setting name: (identifier) @variable.parameter)
(definition name: (identifier) @property)
(state "state" @keyword)
(state name: (identifier) @variable)
(each "in" @keyword)
(each variable: (identifier) @variable)
(group kind: (identifier) @keyword)
(call function: (identifier) @function)
(via connection: (identifier) @type)
(by rule: (identifier) @type)

[
    "by" "else" "for" "if" "use" "via" "with"
] @keyword

[
    "and" "not" "or"
] @keyword.operator

[
    "->" ".." "==" "!=" "<=" ">=" "<" ">" "=" "+" "-" "*" "/"
] @operator

[
    "(" ")" "{" "}" "[" "]"
] @punctuation.bracket

((identifier) @constant.builtin
  (#any-of? @constant.builtin
    "false" "pi" "true"))

((identifier) @variable.builtin
  (#any-of? @variable.builtin
    "branch" "dy" "each" "in" "last" "out" "projection" "result" "shortcut" "stride"))

((identifier) @function.builtin
  (#any-of? @function.builtin
    "abs" "avgpool" "batchnorm" "ceil" "channels" "columns" "concat" "constant" "conv"
    "conv_transposed" "cos" "delay" "detach" "dropout" "droppath" "embedding" "erf" "events" "exp"
    "flatten" "floor" "gelu" "groupnorm" "he_normal" "he_uniform" "heaviside" "identity" "image"
    "inputs" "latency" "layernorm" "learn" "lecun_normal" "linear" "log" "mask" "max" "maxpool" "mean"
    "mean_over_time" "min" "mix" "none" "norm" "normal" "orthogonal" "outputs" "pad" "poisson"
    "python" "random" "relu" "reshape" "round" "rows" "running_mean" "scheduled" "scores" "shared"
    "shuffle" "sigmoid" "sin" "sinusoidal" "softmax" "softplus" "spike" "sqrt" "stage" "sum" "swap"
    "table" "tanh" "tdbn" "tebn" "tokens" "torch_uniform" "transform" "truncated_normal" "uniform"
    "upsample" "xavier_normal" "xavier_uniform" "zeros"))

((identifier) @function.builtin
  (#any-of? @function.builtin
    "adamw" "auto_augment" "bptt" "center_crop" "color_jitter" "cosine" "cross_entropy" "cutmix"
    "distill" "eprop" "exponential" "firing_rate" "head" "horizontal_flip" "membrane" "mixup" "mse"
    "normalize" "online" "python_membrane" "rand_augment" "random_crop" "random_erasing"
    "random_resized_crop" "representation" "resize" "sgd" "stages" "stem" "step" "tet"
    "trivial_augment" "truncated"))

((identifier) @type.builtin
  (#any-of? @type.builtin
    "ALIF" "IF" "IF_soft" "LIF" "LIF_soft" "MSLIF" "MaskedPSN" "PLIF" "PLIF_soft" "PSN" "ReLU"
    "SlidingPSN" "atan" "baa" "baa_conv" "basic" "bottleneck" "chain" "dense" "dense_layer"
    "densely_additive" "densely_additive_after_opening" "densely_additive_all" "densely_concatenated"
    "densenet121" "densenet161" "densenet169" "densenet201" "digits" "dspike" "fashion_mnist"
    "fashion_mnist_two_phase" "feedback" "feedback_after_opening" "grouped" "imagenet_100"
    "imagenet_5_20" "imagenet_ablation" "imagenet_one_step" "imagenet_two_phase" "leaky_k_relu"
    "leaky_rectangle" "ms" "ms_conv" "multi_gaussian" "origin" "pa_a" "pa_a_spike" "pa_b" "pa_b_conv"
    "pa_b_spike" "piecewise_exp" "plain" "q_pseudo_spike" "readout" "rectangle" "resnet101"
    "resnet104" "resnet110" "resnet152" "resnet18" "resnet20" "resnet32" "resnet34" "resnet44"
    "resnet50" "resnet56" "s2nn" "sew" "sew_and" "sew_iand" "sew_iand_exchanged" "single" "softsign"
    "superspike" "tdbn_identity" "threshold" "transition" "triangle" "vgg11" "vgg13" "vgg16" "vgg19"
    "wide"))

((identifier) @property
  (#any-of? @property
    "accumulate" "augment" "augment_on" "batch" "change" "checkpoint_every" "checkpoint_minutes"
    "clip" "ema" "epochs" "evaluate" "freeze" "gradient" "init" "input" "keep_every" "loss" "lr_scale"
    "optimizer" "precision" "schedule" "seed" "start" "steps" "sync_norm" "trials" "warmup" "weight"
    "workers" "zero_init"))

(setting name: (identifier) @_name value: (identifier) @constant
  (#eq? @_name "over")
  (#any-of? @constant
    "channels" "columns" "pixels" "rows" "time"))

(setting name: (identifier) @_name value: (identifier) @constant
  (#eq? @_name "evaluate")
  (#any-of? @constant
    "draw" "mean"))

(setting name: (identifier) @_name value: (identifier) @constant
  (#eq? @_name "init")
  (#any-of? @constant
    "constant" "he_normal" "he_uniform" "lecun_normal" "normal" "orthogonal" "torch_uniform"
    "truncated_normal" "uniform" "xavier_normal" "xavier_uniform" "zeros"))

(setting name: (identifier) @_name value: (identifier) @constant
  (#eq? @_name "gives")
  (#any-of? @constant
    "analog" "spikes"))

(setting name: (identifier) @_name value: (identifier) @constant
  (#eq? @_name "mode")
  (#any-of? @constant
    "bilinear" "fan_in" "fan_out" "nearest"))

(setting name: (identifier) @_name value: (identifier) @constant
  (#eq? @_name "padding")
  (#any-of? @constant
    "same"))

(setting name: (identifier) @_name value: (identifier) @constant
  (#eq? @_name "per")
  (#any-of? @constant
    "channel" "layer" "neuron" "sample" "step"))

(setting name: (identifier) @_name value: (identifier) @constant
  (#eq? @_name "statistics")
  (#any-of? @constant
    "cumulative" "step"))
