"""Random problems for hypothesis."""

from hypothesis import strategies as st

NAMES = ("valid", "same", "same_lower", "same_size", "causal")
axis_sizes = st.tuples(
    st.integers(1, 20), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3)
)  # input, kernel, stride, dilation


@st.composite
def conv_problems(draw):
    """Sizes, kernels, strides and dilations of 1 to 3 axes, and padding in any form."""
    axes = draw(st.lists(axis_sizes, min_size=1, max_size=3))
    amount = st.integers(0, 6)
    rank = len(axes)
    form = draw(
        st.one_of(
            amount,
            st.sampled_from(NAMES),
            st.tuples(*[st.one_of(amount, st.tuples(amount, amount))] * rank),
        )
    )
    return *(tuple(axis[i] for axis in axes) for i in range(4)), form
