"""Edits of a program's operations: what a wrong converter, a wrong rewrite or a wrong description would leave behind.

Each takes the package, the operation and a seeded generator, changes the package and says what it changed.
"""

from collections.abc import Callable
from itertools import permutations

import numpy as np

from tests.mutation.package import Operation, Package, where

Edit = Callable[[Package, Operation, np.random.Generator], str]

RGB_TO_BGR = 20, 30  # ImageFeatureType.ColorSpace
NEAR_SCALES = {"1/256": 1 / 256, "1/254": 1 / 254, "1/127.5": 2 / 255, "1": 1.0, "1/(255 std)": 1 / (255 * 0.226)}
IMAGE_BIASES = {
    "-1": -1.0,
    "-0.5": -0.5,
    "0.5/255": 0.5 / 255,
    "-mean of ImageNet": -np.array([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1),
    "-mean of ImageNet as BGR": -np.array([0.406, 0.456, 0.485]).reshape(1, 3, 1, 1),
}
WRONG_REDUCTIONS = "reduce_max", "reduce_min", "reduce_sum", "reduce_l1_norm", "reduce_l2_norm", "reduce_sum_square"
WRONG_ACTIVATIONS = "relu", "sigmoid", "relu6", "softsign"
WRONG_EPSILONS = 1e-3, 1e-12
WRONG_PADS = [0, 2, 1, 1], [2, 0, 1, 1], [1, 1, 0, 2], [1, 1, 2, 0], [0, 2, 0, 2]  # top, bottom, left, right
SAME_PAD = [0, 1, 0, 1]  # TensorFlow's, for an even map, a kernel of 3 and a stride of 2


def _is_kernel_3(package: Package, operation: Operation) -> bool:
    return package.shape(package.bound(operation, "weight"))[2:] == (3, 3)


def _stride(package: Package, operation: Operation) -> int:
    return int(package.get(operation, "strides")[0])


def _is_strided_depthwise(package: Package, operation: Operation) -> bool:
    return _stride(package, operation) == 2 and int(package.get(operation, "groups")) > 1


def _keeps_shape_when_offsets_swap(package: Package, operation: Operation) -> bool:
    """Transposes of unfold and fold: rank 4, both patch sides of 2."""
    perm = package.get(operation, "perm").tolist()
    return perm in ([1, 3, 0, 2], [2, 0, 3, 1])


def _multiplies_values(package: Package, operation: Operation) -> bool:
    """weights @ v of attention: the first operand is square."""
    *_, rows, columns = package.shape(package.bound(operation, "x"))
    return rows == columns and not bool(package.get(operation, "transpose_y"))


def _moves_data(package: Package, operation: Operation) -> bool:
    """More than one of the moved sides is larger than 1: a reshape would not do the same."""
    shape, perm = package.shape(package.bound(operation, "x")), package.get(operation, "perm").tolist()
    large = [axis for axis in perm if shape[axis] > 1]
    return large != sorted(large)


def _is_of_attention(package: Package, operation: Operation) -> bool:
    return len(package.shape(operation.outputs[0].name)) == 4


splits = where(["split"])
score_softmaxes = where(["softmax"], _is_of_attention)
layer_norms = where(["layer_norm"])
concats = where(["concat"])
residual_adds = where(["add"])
activations = where(["silu"])
global_means = where(["reduce_mean"])
classifies = where(["classify"])
convolutions_3x3 = where(["conv"], _is_kernel_3)
convolutions_of_stride_2 = where(["conv"], lambda p, o: _is_kernel_3(p, o) and _stride(p, o) == 2)
strided_depthwise = where(["conv"], _is_strided_depthwise)
offset_transposes = where(["transpose"], _keeps_shape_when_offsets_swap)
moving_transposes = where(["transpose"], _moves_data)
value_products = where(["matmul"], _multiplies_values)


def image_scalings(package: Package) -> list[str]:
    """The first operation, which scales the image."""
    return [package.operations("mul")[0].outputs[0].name]


def reorder_split(*orders: tuple[int, int, int]) -> Edit:
    """The parts q, k and v of a split under each other's names."""

    def edit(package: Package, operation: Operation, draw: np.random.Generator) -> str:
        order = orders[draw.integers(len(orders))]
        given = [output.name for output in operation.outputs]
        for output, place in zip(operation.outputs, order, strict=True):
            output.name = given[place]
        return "(q, k, v) are named " + ", ".join("qkv"[place] for place in order)

    return edit


def softmax_over_queries(package: Package, operation: Operation, draw: np.random.Generator) -> str:
    package.give(operation, "axis", np.int32(-2))
    return "axis -1 -> -2"


def wrong_epsilon(package: Package, operation: Operation, draw: np.random.Generator) -> str:
    epsilon = draw.choice(WRONG_EPSILONS)
    package.give(operation, "epsilon", np.float32(epsilon))
    return f"epsilon 1e-05 -> {epsilon:g}"


def normalize_over_tokens(package: Package, operation: Operation, draw: np.random.Generator) -> str:
    package.give(operation, "axes", np.array([-2], np.int32))
    return "axes [-1] -> [-2]"


def swap_concat(package: Package, operation: Operation, draw: np.random.Generator) -> str:
    first, second = operation.inputs["values"].arguments
    first.name, second.name = second.name, first.name
    return f"({second.name}, {first.name}) -> ({first.name}, {second.name})"


def interleave_concat(package: Package, operation: Operation, draw: np.random.Generator) -> str:
    package.give(operation, "interleave", np.bool_(True))
    return "channels taken in turns"


def shift_padding(package: Package, operation: Operation, draw: np.random.Generator) -> str:
    pad = list(WRONG_PADS[draw.integers(len(WRONG_PADS))])
    package.give(operation, "pad", np.array(pad, np.int32))
    return f"pad [1, 1, 1, 1] -> {pad}"


def tensorflow_padding(package: Package, operation: Operation, draw: np.random.Generator) -> str:
    package.give(operation, "pad", np.array(SAME_PAD, np.int32))
    return f"pad [1, 1, 1, 1] -> {SAME_PAD}"


def dilate(package: Package, operation: Operation, draw: np.random.Generator) -> str:
    package.give(operation, "pad", np.array([2, 2, 2, 2], np.int32))
    package.give(operation, "dilations", np.array([2, 2], np.int32))
    return "dilation 1 -> 2, pad 1 -> 2"


def stride_before_depthwise(package: Package, operation: Operation, draw: np.random.Generator) -> str:
    """The 1x1 expansion takes the stride, its results are declared as small as they become."""
    activation = package.operation(package.bound(operation, "x"))
    expansion = package.operation(package.bound(activation, "x"))
    package.give(operation, "strides", np.array([1, 1], np.int32))
    package.give(expansion, "strides", np.array([2, 2], np.int32))
    for changed in (expansion, activation):
        for side in changed.outputs[0].type.tensorType.dimensions[2:]:
            side.constant.size //= 2
    return "stride 2 moved to the expansion before it"


def flip_colors(package: Package, operation: Operation, draw: np.random.Generator) -> str:
    """Blue first, in the description; or the channels in any other order, by an operation of its own."""
    if draw.random() < 0.2:
        image = package.spec.description.input[0].type.imageType
        image.colorSpace = RGB_TO_BGR[1] if image.colorSpace == RGB_TO_BGR[0] else RGB_TO_BGR[0]
        return "the description's colour space RGB -> BGR"
    orders = [order for order in permutations(range(3)) if order != (0, 1, 2)]
    order = orders[draw.integers(len(orders))]
    package.insert(operation, "gather", "image", indices=np.array(order, np.int32), axis=np.int32(1))
    return f"channels taken in the order {''.join('RGB'[channel] for channel in order)}"


def wrong_image_scale(package: Package, operation: Operation, draw: np.random.Generator) -> str:
    name = draw.choice(sorted(NEAR_SCALES))
    package.give(operation, "y", np.float32(NEAR_SCALES[name]))
    return f"scale 1/255 -> {name}"


def wrong_image_bias(package: Package, operation: Operation, draw: np.random.Generator) -> str:
    name = draw.choice(sorted(IMAGE_BIASES))
    source = operation.outputs[0].name
    first = next(o for o in package.operations("conv") if package.bound(o, "x") == source)
    package.insert(first, "add", source, y=np.asarray(IMAGE_BIASES[name], np.float32))
    return f"bias 0 -> {name}"


def shuffle_labels(package: Package, operation: Operation, draw: np.random.Generator) -> str:
    held = [
        text
        for value in operation.inputs["classes"].arguments[0].value.immediateValue.list.values
        for text in [value.immediateValue.tensor.strings]
    ]
    labels = [text.values[0] for text in held]
    order = list(range(len(labels)))
    while order == sorted(order):
        order = draw.permutation(len(labels)).tolist()
    for text, place in zip(held, order, strict=True):
        text.values[0] = labels[place]
    return f"in the order {order}"


def drop_residual(package: Package, operation: Operation, draw: np.random.Generator) -> str:
    """The operation goes, and whoever took its sum takes the branch alone."""
    branch = package.bound(operation, "y")
    package.redirect(operation.outputs[0].name, branch)
    package.remove(operation)
    return f"{operation.outputs[0].name} -> {branch}"


def add_twice(package: Package, operation: Operation, draw: np.random.Generator) -> str:
    kept, lost = draw.permutation(["x", "y"])
    operation.inputs[lost].CopyFrom(operation.inputs[kept])
    return f"{kept} + {lost} -> {kept} + {kept}"


def swap_pixel_offsets(package: Package, operation: Operation, draw: np.random.Generator) -> str:
    """Row and column within the patch change places: [ph, pw] is [pw, ph]."""
    old = package.get(operation, "perm").tolist()
    new = {(1, 3, 0, 2): [3, 1, 0, 2], (2, 0, 3, 1): [2, 1, 3, 0]}[tuple(old)]
    package.give(operation, "perm", np.array(new, np.int32))
    return f"perm {old} -> {new}"


def reshape_instead(package: Package, operation: Operation, draw: np.random.Generator) -> str:
    """The shape of a transpose without its order."""
    shape = package.shape(operation.outputs[0].name)
    operation.type = "reshape"
    del operation.inputs["perm"]
    package.give(operation, "shape", np.array(shape, np.int32))
    return f"transpose -> reshape to {list(shape)}"


def other_activation(package: Package, operation: Operation, draw: np.random.Generator) -> str:
    operation.type = str(draw.choice(WRONG_ACTIVATIONS))
    return f"silu -> {operation.type}"


def transpose_attention(package: Package, operation: Operation, draw: np.random.Generator) -> str:
    package.give(operation, "transpose_x", np.bool_(True))
    return "transpose_x false -> true"


def other_reduction(package: Package, operation: Operation, draw: np.random.Generator) -> str:
    operation.type = str(draw.choice(WRONG_REDUCTIONS))
    return f"reduce_mean -> {operation.type}"
