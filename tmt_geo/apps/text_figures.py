"""All figures of what a model does with one text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from tmt_geo.viz import Passage, Section

# A menu with more tokens than this cannot be used.
MAX_MENU = 200


def token_ids(text: str, tokenizer: PreTrainedTokenizerFast, longest: int | None) -> Tensor:
    """Returns the tokens of a text (1, S).

    Raises:
        ValueError: If there are none, or more than the model takes.
    """
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids.long()
    if ids.numel() == 0:
        raise ValueError(f"'text' needs at least one token (got {text!r})")
    if longest is not None and ids.size(1) > longest:
        raise ValueError(f"'text' exceeds the model's max_seq_len={longest} tokens (got {ids.size(1)})")
    return ids


def text_sections(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, input_ids: Tensor, position: int = -1
) -> list[Section]:
    """Draws all that a model does with a text; what it has no mechanism for is left out.

    Args:
        model: A :class:`~tmt_geo.TMTModel` with a mesh.
        tokenizer: Its tokenizer.
        input_ids: The tokens of the text (1, S).
        position: The token of which is shown why the model predicts what comes next; -1 is the last.

    Returns:
        The parts of a page, for :func:`tmt_geo.viz.figures_page` and :func:`tmt_geo.viz.build_report`.

    Raises:
        ValueError: If the model has no mesh, or the text no such position.
    """
    import torch

    from tmt_geo import viz
    from tmt_geo.evaluate import prediction_parts
    from tmt_geo.evaluate.layer_diagnostics import layer_diagnostics

    parts = prediction_parts(model, input_ids, position)
    graphs = layer_diagnostics(model, input_ids)
    with torch.no_grad():
        output = model(input_ids, use_cache=False, logits_to_keep=1)
    labels = viz.token_labels(graphs, tokenizer)
    clusters = viz.mesh_clusters(graphs)
    sections = [
        viz.Section(
            "The mesh, layer by layer",
            viz.explore(graphs, labels, groups=clusters, title="text and mesh").frame(),
            "Point at a token: what it attends to lights up in the text and in the mesh. The slider goes through the "
            "layers; nodes with like states stand together, and move as these change.",
        ),
        viz.Section(
            "Why the next token",
            viz.why_prediction(parts, tokenizer),
            "What the model predicts after one token, and where it has that from: its vocabulary head, the passages "
            "that its copy head copies from, and whom the mesh has attended to.",
        ),
        viz.Section(
            "Nearest tokens",
            viz.neighbor_table(graphs, range(min(len(labels), MAX_MENU)), labels),
            "Choose a token: its nearest tokens by the cosine of the states behind each layer. Where the names change "
            "from column to column, the token has moved.",
        ),
    ]
    if len(graphs) > 1:
        caption = "Bars are clusters with their commonest tokens, bands the tokens that go from one to the next."
        flow = viz.cluster_flow(graphs, labels, clusters=clusters)
        sections.append(viz.Section("Clusters, from layer to layer", flow, caption))
    if "confidence" in graphs[0]:
        sections += _exit_sections(model, tokenizer, input_ids, viz.passage_of(graphs, labels))
    if output.decay_scalars is not None:
        sections.append(
            viz.Section(
                "Decay with distance",
                viz.decay_curves(
                    output.decay_scalars, form=model.config.decay, unit=model.config.max_position_embeddings
                ),
                "What is left of a head's weight on a token so many tokens away.",
            )
        )
    if "stream_gate" in graphs[0]:
        caption = "Orange: the stream called syntax; blue: the one called semantic. Bare: the token was frozen."
        sections.append(viz.Section("The two streams", viz.stream_gate(graphs, labels), caption))
    if "anchor_weights" in graphs[0]:
        caption = "Left, how much each token reads of each anchor; right, how alike the anchors are."
        sections.append(viz.Section("Memory anchors", viz.anchor_use(graphs, output.memory_state, labels), caption))
    return sections


def _exit_sections(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, input_ids: Tensor, passage: Passage
) -> list[Section]:
    from tmt_geo import viz
    from tmt_geo.evaluate import exit_profile

    stream = input_ids[0].cpu()
    profile = exit_profile(model, stream, tokenizer, stream, context=stream.numel(), stride=stream.numel(), rare=1)
    rows = [(row.kind, row.tokens, row.depth) for row in profile.by_word]
    return [
        viz.Section(
            "How deep each token went",
            viz.exit_depth_html(passage),
            f"The stronger the shade, the more of the {passage.num_layers} layers computed a token.",
        ),
        viz.Section(
            "Depth by kind of word",
            viz.depth_profile(rows, num_layers=passage.num_layers, title="kind of word"),
            "Of this text alone: a kind with few tokens says little.",
        ),
    ]
