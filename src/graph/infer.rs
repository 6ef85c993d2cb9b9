//! What each operation makes of the types of its inputs.

use super::{Conv2d, Dim, ElementType, Op, Pool2d, Shape, TensorType};

type Problem = String;

/// Types of the outputs of `op`, or what does not fit.
pub(super) fn infer(op: &Op, inputs: &[&TensorType]) -> Result<Vec<TensorType>, Problem> {
    let one = |ty: TensorType| Ok(vec![ty]);
    match op {
        Op::Add | Op::Sub | Op::Mul | Op::Div => {
            let [a, b] = floats(inputs)?;
            one(TensorType::f32(broadcast(&a.shape, &b.shape)?))
        }
        Op::Sqrt
        | Op::Exp
        | Op::Log
        | Op::Erf
        | Op::Relu
        | Op::LeakyRelu { .. }
        | Op::Clip { .. }
        | Op::Sigmoid
        | Op::Softmax
        | Op::LogSoftmax => {
            let [x] = floats(inputs)?;
            one(x.clone())
        }
        Op::Conv(conv) => one(convolution(conv, inputs)?),
        Op::Gemm {
            transpose_a,
            transpose_b,
        } => one(gemm(*transpose_a, *transpose_b, inputs)?),
        Op::MatMul => one(matmul(inputs)?),
        Op::BatchNorm(_) => {
            let [x, scale, bias, mean, variance] = floats(inputs)?;
            let channels = Shape::new(vec![channel_axis(x)?]);
            for (name, ty) in [
                ("scale", scale),
                ("bias", bias),
                ("running mean", mean),
                ("running variance", variance),
            ] {
                expect_shape(name, ty, &channels)?;
            }
            let statistics = TensorType::f32(channels);
            Ok(vec![x.clone(), statistics.clone(), statistics])
        }
        Op::MaxPool(pool) => {
            let [x] = floats(inputs)?;
            let y = TensorType::f32(pooled(pool, x)?);
            let indices = TensorType::new(ElementType::I64, y.shape.clone());
            Ok(vec![y, indices])
        }
        Op::AveragePool(pool) => {
            let [x] = floats(inputs)?;
            one(TensorType::f32(pooled(pool, x)?))
        }
        Op::GlobalAveragePool => {
            let [x] = floats(inputs)?;
            let [batch, channels, _, _] = image_axes(x)?;
            one(TensorType::f32(Shape::new(vec![
                batch,
                channels,
                Dim::Fixed(1),
                Dim::Fixed(1),
            ])))
        }
        Op::SoftmaxCrossEntropy => {
            let (logits, _) = cross_entropy(inputs)?;
            Ok(vec![TensorType::f32(Shape::fixed(&[])), logits.clone()])
        }
        Op::Dropout { ratio } => {
            let [x] = floats(inputs)?;
            if !(0.0..1.0).contains(ratio) {
                return Err(format!(
                    "a dropout ratio is at least 0 and below 1, not {ratio}"
                ));
            }
            Ok(vec![
                x.clone(),
                TensorType::new(ElementType::Bool, x.shape.clone()),
            ])
        }
        Op::Concat { axis } => one(concat(*axis, inputs)?),
        Op::Slice { axis, start, end } => {
            let [x] = exactly(inputs)?;
            let mut dims = x.shape.dims().to_vec();
            match dims.get_mut(*axis) {
                Some(Dim::Fixed(size)) if start < end && *end <= *size => *size = end - start,
                _ => return Err(format!("cannot take {start}..{end} of axis {axis}")),
            }
            one(TensorType::new(x.element, Shape::new(dims)))
        }
        Op::Reverse { axis } => {
            let [x] = exactly(inputs)?;
            match x.shape.dims().get(*axis) {
                Some(Dim::Fixed(_)) => one(x.clone()),
                _ => Err(format!("cannot reverse axis {axis}")),
            }
        }
        Op::Pad { before, behind } => {
            let [x] = floats(inputs)?;
            let mut dims = x.shape.dims().to_vec();
            if before.len() != dims.len() || behind.len() != dims.len() {
                return Err(format!(
                    "padding for {} axes, not {}",
                    dims.len(),
                    before.len()
                ));
            }
            for (axis, dim) in dims.iter_mut().enumerate() {
                let added = before[axis] + behind[axis];
                match dim {
                    Dim::Fixed(size) => *size += added,
                    Dim::Batch(_) if added == 0 => {}
                    Dim::Batch(_) => return Err("the batch axis cannot be padded".into()),
                }
            }
            one(TensorType::f32(Shape::new(dims)))
        }
        Op::Reshape { shape } => {
            let [x] = exactly(inputs)?;
            if shape.len() != x.shape.len() {
                return Err(format!(
                    "{} elements cannot take the shape {shape}",
                    x.shape.len()
                ));
            }
            if shape
                .dims()
                .iter()
                .filter(|dim| matches!(dim, Dim::Batch(_)))
                .count()
                > 1
            {
                return Err(format!(
                    "more than one axis of {shape} depends on the batch size"
                ));
            }
            one(TensorType::new(x.element, shape.clone()))
        }
        Op::Transpose { permutation } => {
            let [x] = exactly(inputs)?;
            let mut sorted = permutation.clone();
            sorted.sort_unstable();
            if sorted != (0..x.shape.rank()).collect::<Vec<_>>() {
                return Err(format!(
                    "{permutation:?} is no permutation of {} axes",
                    x.shape.rank()
                ));
            }
            let dims = permutation
                .iter()
                .map(|&axis| x.shape.dims()[axis])
                .collect();
            one(TensorType::new(x.element, Shape::new(dims)))
        }
        Op::ReduceSum { axes, keep } | Op::ReduceMean { axes, keep } => {
            let [x] = floats(inputs)?;
            one(TensorType::f32(reduced(&x.shape, axes, *keep)?))
        }
        Op::ExpandLike => {
            let [x, like] = floats(inputs)?;
            let shape = broadcast(&x.shape, &like.shape)?;
            if shape != like.shape {
                return Err("does not expand to the second input's shape".into());
            }
            one(TensorType::f32(shape))
        }
        Op::BatchSize => {
            let [x] = exactly(inputs)?;
            match x.shape.dims() {
                [Dim::Batch(1), ..] => one(TensorType::f32(Shape::fixed(&[]))),
                _ => Err(format!("{} has no batch axis in front", x.shape)),
            }
        }
        Op::Cast { to } => {
            let [x] = exactly(inputs)?;
            one(TensorType::new(*to, x.shape.clone()))
        }
        Op::ReluGrad
        | Op::LeakyReluGrad { .. }
        | Op::ClipGrad { .. }
        | Op::SigmoidGrad
        | Op::SoftmaxGrad
        | Op::LogSoftmaxGrad => {
            let [gradient, like] = floats(inputs)?;
            expect_shape("gradient", gradient, &like.shape)?;
            one(like.clone())
        }
        Op::ConvInputGrad(conv) => {
            let [gradient, x, weight] = floats(inputs)?;
            expect_shape(
                "gradient",
                gradient,
                &convolution(conv, &[x, weight])?.shape,
            )?;
            one(x.clone())
        }
        Op::ConvWeightGrad(conv) => {
            let [gradient, x, weight] = floats(inputs)?;
            expect_shape(
                "gradient",
                gradient,
                &convolution(conv, &[x, weight])?.shape,
            )?;
            one(weight.clone())
        }
        Op::BatchNormGrad(_) => {
            let [gradient, x, scale, _, _] = floats(inputs)?;
            expect_shape("gradient", gradient, &x.shape)?;
            Ok(vec![x.clone(), scale.clone(), scale.clone()])
        }
        Op::MaxPoolGrad => {
            let [gradient, indices, x] = exactly(inputs)?;
            expect_shape("indices", indices, &gradient.shape)?;
            one(x.clone())
        }
        Op::AveragePoolGrad(pool) => {
            let [gradient, x] = floats(inputs)?;
            expect_shape("gradient", gradient, &pooled(pool, x)?)?;
            one(x.clone())
        }
        Op::SoftmaxCrossEntropyGrad => {
            let [_, rest @ ..] = inputs else {
                return Err("needs a gradient".into());
            };
            let (log_probabilities, _) = cross_entropy(rest)?;
            one(log_probabilities.clone())
        }
        Op::DropoutGrad { .. } => {
            let [gradient, mask] = exactly(inputs)?;
            expect_shape("mask", mask, &gradient.shape)?;
            one(gradient.clone())
        }
        Op::NesterovStep { .. } => {
            let [weight, gradient, velocity] = floats(inputs)?;
            expect_shape("gradient", gradient, &weight.shape)?;
            expect_shape("velocity", velocity, &weight.shape)?;
            Ok(vec![weight.clone(); 2])
        }
        Op::Accumulate => {
            let [buffer, value, flag] = exactly(inputs)?;
            expect_shape("value", value, &buffer.shape)?;
            expect_shape("flag", flag, &Shape::fixed(&[1]))?;
            one(TensorType::new(ElementType::Bool, Shape::fixed(&[1])))
        }
    }
}

fn exactly<'a, const COUNT: usize>(
    inputs: &[&'a TensorType],
) -> Result<[&'a TensorType; COUNT], Problem> {
    inputs
        .try_into()
        .map_err(|_| format!("needs {COUNT} inputs, not {}", inputs.len()))
}

fn floats<'a, const COUNT: usize>(
    inputs: &[&'a TensorType],
) -> Result<[&'a TensorType; COUNT], Problem> {
    match inputs.iter().find(|ty| ty.element != ElementType::F32) {
        Some(ty) => Err(format!("works on f32, not {}", ty.element)),
        None => exactly(inputs),
    }
}

fn expect_shape(what: &str, ty: &TensorType, shape: &Shape) -> Result<(), Problem> {
    if ty.shape == *shape {
        return Ok(());
    }
    Err(format!(
        "the {what} has shape {}, expected {shape}",
        ty.shape
    ))
}

fn channel_axis(x: &TensorType) -> Result<Dim, Problem> {
    match x.shape.dims() {
        [_, channels, ..] => Ok(*channels),
        _ => Err(format!("needs a channel axis, {} has none", x.shape)),
    }
}

fn image_axes(x: &TensorType) -> Result<[Dim; 4], Problem> {
    x.shape
        .dims()
        .try_into()
        .map_err(|_| format!("needs [N, C, H, W], not {}", x.shape))
}

fn sizes(dims: &[Dim]) -> Result<Vec<usize>, Problem> {
    dims.iter()
        .map(|dim| match dim {
            Dim::Fixed(size) => Ok(*size),
            Dim::Batch(_) => Err(format!("{dim} must be a fixed size")),
        })
        .collect()
}

/// Size of an axis after a window has moved over it: `⌊(size + padding − dilation · (kernel − 1) − 1) / stride⌋ + 1`.
fn windows(
    size: usize,
    padding: usize,
    kernel: usize,
    dilation: usize,
    stride: usize,
) -> Result<usize, Problem> {
    let span = dilation * (kernel - 1) + 1;
    match (size + padding).checked_sub(span) {
        Some(room) if stride > 0 => Ok(room / stride + 1),
        _ => Err(format!(
            "a window of {span} does not fit {size} with {padding} of padding"
        )),
    }
}

fn convolution(conv: &Conv2d, inputs: &[&TensorType]) -> Result<TensorType, Problem> {
    let (x, weight, bias) = match inputs {
        [x, weight] => (x, weight, None),
        [x, weight, bias] => (x, weight, Some(bias)),
        _ => return Err(format!("needs 2 or 3 inputs, not {}", inputs.len())),
    };
    let [batch, axes @ ..] = image_axes(x)?;
    let [channels, height, width] = sizes(&axes)?[..] else {
        return Err("needs three fixed axes".into());
    };
    let [outputs, group_channels, kernel_height, kernel_width] = sizes(weight.shape.dims())?[..]
    else {
        return Err(format!(
            "needs weights [O, C, kH, kW], not {}",
            weight.shape
        ));
    };
    if conv.groups == 0 || group_channels * conv.groups != channels || outputs % conv.groups != 0 {
        return Err(format!(
            "{channels} channels and {outputs} outputs in {} groups do not fit weights {}",
            conv.groups, weight.shape
        ));
    }
    if let Some(bias) = bias {
        expect_shape("bias", bias, &Shape::fixed(&[outputs]))?;
    }
    let [top, left, bottom, right] = conv.padding;
    let rows = windows(
        height,
        top + bottom,
        kernel_height,
        conv.dilations[0],
        conv.strides[0],
    )?;
    let columns = windows(
        width,
        left + right,
        kernel_width,
        conv.dilations[1],
        conv.strides[1],
    )?;
    Ok(TensorType::f32(Shape::new(vec![
        batch,
        Dim::Fixed(outputs),
        Dim::Fixed(rows),
        Dim::Fixed(columns),
    ])))
}

fn pooled(pool: &Pool2d, x: &TensorType) -> Result<Shape, Problem> {
    let [batch, channels, axes @ ..] = image_axes(x)?;
    let [height, width] = sizes(&axes)?[..] else {
        return Err("needs a fixed height and width".into());
    };
    let [top, left, bottom, right] = pool.padding;
    let rows = windows(height, top + bottom, pool.kernel[0], 1, pool.strides[0])?;
    let columns = windows(width, left + right, pool.kernel[1], 1, pool.strides[1])?;
    Ok(Shape::new(vec![
        batch,
        channels,
        Dim::Fixed(rows),
        Dim::Fixed(columns),
    ]))
}

fn gemm(
    transpose_a: bool,
    transpose_b: bool,
    inputs: &[&TensorType],
) -> Result<TensorType, Problem> {
    let (a, b, c) = match inputs {
        [a, b] => (a, b, None),
        [a, b, c] => (a, b, Some(c)),
        _ => return Err(format!("needs 2 or 3 inputs, not {}", inputs.len())),
    };
    let matrix = |ty: &TensorType, transpose: bool| match *ty.shape.dims() {
        [rows, columns] if transpose => Ok((columns, rows)),
        [rows, columns] => Ok((rows, columns)),
        _ => Err(format!("needs a matrix, not {}", ty.shape)),
    };
    let (rows, inner) = matrix(a, transpose_a)?;
    let (inner_b, columns) = matrix(b, transpose_b)?;
    if inner != inner_b {
        return Err(format!("the inner sizes {inner} and {inner_b} differ"));
    }
    let shape = Shape::new(vec![rows, columns]);
    if let Some(c) = c
        && broadcast(&c.shape, &shape)? != shape
    {
        return Err(format!(
            "the addend {} does not broadcast to {shape}",
            c.shape
        ));
    }
    Ok(TensorType::f32(shape))
}

fn matmul(inputs: &[&TensorType]) -> Result<TensorType, Problem> {
    let [a, b] = floats(inputs)?;
    match (a.shape.dims(), b.shape.dims()) {
        ([leading @ .., rows, inner], [leading_b @ .., inner_b, columns])
            if leading == leading_b && inner == inner_b =>
        {
            let mut dims = leading.to_vec();
            dims.extend([*rows, *columns]);
            Ok(TensorType::f32(Shape::new(dims)))
        }
        _ => Err("the matrices do not fit".into()),
    }
}

fn cross_entropy<'a>(
    inputs: &[&'a TensorType],
) -> Result<(&'a TensorType, &'a TensorType), Problem> {
    let (logits, labels, weights) = match inputs {
        [logits, labels] => (*logits, *labels, None),
        [logits, labels, weights] => (*logits, *labels, Some(weights)),
        _ => {
            return Err(format!(
                "needs logits, labels and at most class weights, not {} inputs",
                inputs.len()
            ));
        }
    };
    let &[batch, classes] = logits.shape.dims() else {
        return Err(format!("needs logits [N, K], not {}", logits.shape));
    };
    if labels.element != ElementType::I64 {
        return Err(format!("needs i64 labels, not {}", labels.element));
    }
    expect_shape("label vector", labels, &Shape::new(vec![batch]))?;
    if let Some(weights) = weights {
        expect_shape("class weight vector", weights, &Shape::new(vec![classes]))?;
    }
    Ok((logits, labels))
}

fn concat(axis: usize, inputs: &[&TensorType]) -> Result<TensorType, Problem> {
    let [first, rest @ ..] = inputs else {
        return Err("needs at least one input".into());
    };
    let mut dims = first.shape.dims().to_vec();
    for ty in rest {
        let fits = ty.shape.rank() == dims.len()
            && ty.element == first.element
            && (0..dims.len()).all(|other| other == axis || ty.shape.dims()[other] == dims[other]);
        match (dims.get_mut(axis), ty.shape.dims().get(axis)) {
            (Some(Dim::Fixed(sum)), Some(Dim::Fixed(size))) if fits => *sum += size,
            (Some(Dim::Batch(sum)), Some(Dim::Batch(times))) if fits => *sum += times,
            _ => return Err(format!("cannot be joined along axis {axis}")),
        }
    }
    Ok(TensorType::new(first.element, Shape::new(dims)))
}

fn reduced(shape: &Shape, axes: &[usize], keep: bool) -> Result<Shape, Problem> {
    if !axes.is_sorted_by(|a, b| a < b) || axes.last().is_some_and(|&axis| axis >= shape.rank()) {
        return Err(format!("{axes:?} are not ascending axes of {shape}"));
    }
    let dims = shape
        .dims()
        .iter()
        .enumerate()
        .filter_map(|(axis, &dim)| match (axes.contains(&axis), keep) {
            (true, true) => Some(Dim::Fixed(1)),
            (true, false) => None,
            (false, _) => Some(dim),
        })
        .collect();
    Ok(Shape::new(dims))
}

/// Shape of an element-wise result: sizes are aligned at the last axis, and 1 stretches.
pub(super) fn broadcast(a: &Shape, b: &Shape) -> Result<Shape, Problem> {
    let rank = a.rank().max(b.rank());
    let aligned = |shape: &Shape, axis: usize| match (axis + shape.rank()).checked_sub(rank) {
        Some(own) => shape.dims()[own],
        None => Dim::Fixed(1),
    };
    (0..rank)
        .map(|axis| match (aligned(a, axis), aligned(b, axis)) {
            (x, y) if x == y => Ok(x),
            (Dim::Fixed(1), other) | (other, Dim::Fixed(1)) => Ok(other),
            _ => Err(format!("shapes {a} and {b} do not broadcast")),
        })
        .collect::<Result<Vec<_>, _>>()
        .map(Shape::new)
}
