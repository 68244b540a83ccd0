"""What gives a model away by the side of an API: one table of rules, fields and paths.

Nothing here lets anything in: what the gateway takes is in `wire_bodies` and in the gateway's routes, and all else is
refused (rule 5). This table says of the known ones why, so that a refusal teaches and a usage line tells what was
tried. A field or path that is not in it is refused under the rule `unknown`.

Fields of OpenAI's API 2026, vLLM 0.33 and llama.cpp's server; a few of TGI, SGLang and Ollama.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

UNKNOWN: Final = "unknown"

RULES: Final[Mapping[str, str]] = {
    # fields
    "logits": "It shows log probabilities of tokens that the caller names, of the prompt, or of the whole vocabulary: "
    "the model's last layer can be computed from them.",
    "steering": "It rules tokens in or out: which token is then the likeliest compares two logits of the caller's "
    "choice.",
    "logit_bias": "Bias moves tokens into sight: how many, how far and in how many sets is the tier's.",
    "sampling": "Answers are drawn by temperature and top_p only: other samplers, and penalties on tokens that the "
    "caller has put into the prompt, are biases by another name.",
    "answers": "One answer a request: several multiply what a request costs and shows.",
    "echo": "The prompt is not repeated: its log probabilities would come with it.",
    "infill": "A text is continued at its end: filling a gap shows what the model makes of the caller's own words.",
    "tokens": "It tells token ids, or takes them: text goes in and text comes out.",
    "prompt_form": "The operator's template and tokenizer read the prompt.",
    "engine": "The operator decides on the engine's extras, adapters, slots and caches.",
    "mark": "The operator decides on marks.",
    "store": "Nothing is kept here between two requests.",
    "prediction": "A predicted answer is checked token by token: that tells which of the caller's tokens were right.",
    "tools": "Tools are not served: they force an answer into a form.",
    "reasoning": "What the model thinks before it answers is shown as the tier says, not as a request says.",
    "modality": "Text only.",
    "internals": "It shows timings or settings of the engine.",
    "pooling": "Vectors are served as one, projected and of length 1: raw states of a model span its hidden width.",
    # paths
    "fine_tuning": "Fine-tuning shows a model's answer to chosen gradients.",
    "embeddings": "Vectors of a model's hidden states.",
    "side_door": "A path of an engine that writes text beside the policy.",
    "raw_vectors": "A path of an engine that shows raw vectors or scores.",
    "model_details": "A path that shows an engine's model, settings, prompts or load.",
    "engine_control": "A path that changes an engine.",
    UNKNOWN: "It is not on the list of what is taken.",
    "method": "The path does not take that method.",
    # values
    "logprobs": "How many likeliest tokens are shown in each place is the tier's.",
    "bias_beside_logprobs": "A bias over 2 beside log probabilities gives the model's last layer away.",
    "bias_sets": "Distinct sets of biases are counted: by prompt, and by day.",
    "value": "The value is not of the form that is taken.",
    "missing": "A required field is missing.",
    "json": "It is not JSON, or holds a name twice.",
}


def _table(rows: Mapping[str, str]) -> dict[str, str]:
    return {name: rule for rule, names in rows.items() for name in names.split()}


FIELDS: Final[Mapping[str, str]] = _table(
    {
        "logits": "prompt_logprobs prompt_logprob_token_ids prompt_logprob_start logprob_token_ids n_probs "
        "logprobs_mode post_sampling_probs min_keep completion_probabilities return_logprob logprob_start_len "
        "top_logprobs_num token_ids_logprob return_hidden_states decoder_input_details top_n_tokens "
        "details return_text_in_logprobs",
        "steering": "allowed_token_ids bad_words bad_words_ids force_words guided_json guided_regex guided_choice "
        "guided_grammar guided_decoding_backend guided_whitespace_pattern structured_outputs grammar grammar_lazy "
        "grammar_triggers preserved_tokens json_schema regex ebnf structural_tag response_format format "
        "forced_decoder_ids logits_processors custom_logit_processor",
        "logit_bias": "logit_bias",
        "sampling": "samplers top_k min_p typical_p top_a tfs_z epsilon_cutoff eta_cutoff mirostat mirostat_mode "
        "mirostat_tau mirostat_eta dynatemp_range dynatemp_exponent xtc_probability xtc_threshold top_n_sigma "
        "smoothing_factor adaptive_target adaptive_decay dry_multiplier dry_base dry_allowed_length "
        "dry_penalty_last_n dry_sequence_breakers repeat_penalty repeat_last_n repetition_penalty penalty_alpha "
        "presence_penalty frequency_penalty no_repeat_ngram_size length_penalty use_beam_search beam_width "
        "early_stopping ignore_eos min_tokens n_predict do_sample temperature_last repetition_detection",
        "answers": "n best_of n_cmpl num_return_sequences",
        "echo": "echo return_full_text __verbose",
        "infill": "suffix input_prefix input_suffix input_extra fim",
        "tokens": "return_tokens return_token_ids return_tokens_as_token_ids skip_special_tokens "
        "spaces_between_special_tokens stop_token_ids include_stop_str_in_output detokenize prompt_token_ids "
        "prompt_embeds input_ids input_embeds no_stop_trim with_pieces",
        "prompt_form": "chat_template chat_template_kwargs add_generation_prompt continue_final_message "
        "add_special_tokens truncate_prompt_tokens truncation_side documents raw template system context instructions",
        "engine": "vllm_xargs extra_body extra_args lora lora_adapters lora_request lora_path adapter_id id_slot "
        "slot_id "
        "cache_prompt cache_salt n_cache_reuse n_keep n_discard n_indent kv_transfer_params ec_transfer_params "
        "priority request_id rid mm_processor_kwargs media_io_kwargs speculative speculative.n_max "
        "speculative.n_min speculative.p_min t_max_predict_ms t_max_prompt_ms keep_alive options num_ctx "
        "session_params bootstrap_host bootstrap_port bootstrap_room data_parallel_rank",
        "mark": "watermark watermarking watermark_config",
        "store": "store metadata previous_response_id conversation background prompt_cache_key prompt_cache_retention "
        "safety_identifier service_tier truncation context_management",
        "prediction": "prediction",
        "tools": "tools tool_choice functions function_call parallel_tool_calls max_tool_calls parse_tool_calls "
        "tool_calls tool_call_id web_search_options",
        "reasoning": "reasoning reasoning_effort reasoning_format reasoning_content include_reasoning "
        "separate_reasoning stream_reasoning thinking thinking_budget thinking_budget_tokens thinking_token_budget "
        "thinking_forced_open think include verbosity",
        "modality": "modalities audio image images image_data video_data audio_data multimodal_data",
        "internals": "timings_per_token response_fields return_progress stream_interval return_cached_tokens_details",
        "pooling": "pooling pooling_type normalize embd_normalize use_activation softmax activation task "
        "embed_dtype endianness",
    }
)

PATHS: Final[Mapping[str, str]] = _table(
    {
        "side_door": "/invocations /completion /completions /chat/completions /infill /generate /generate_stream "
        "/v1/responses /v1/messages /v1/complete /v1/infill /inference/v1/generate /v1/chat /v2/chat /v1/edits "
        "/api/generate /api/chat /v1/audio/transcriptions /v1/audio/translations /v1/audio/speech /v1/realtime "
        "/v1/images/generations /v1/chat/completions/render /v1/completions/render /v1/chat/completions/input_tokens "
        "/v1/responses/input_tokens /v1/messages/count_tokens /v1/chat/completions/batch /v1/moderations",
        "raw_vectors": "/pooling /score /v1/score /rerank /v1/rerank /v2/rerank /reranking /v1/reranking /classify "
        "/v1/classify /generative_scoring /embedding /embeddings /encode /v2/embed /cohere/v2/embed /api/embed "
        "/api/embeddings",
        "tokens": "/tokenize /detokenize /v1/tokenize /v1/detokenize /apply-template /tokenizer_info",
        "model_details": "/props /slots /metrics /version /server_info /get_server_info /get_model_info /model_info "
        "/v1/loads /load /models /ping /info /api/tags /api/show /api/ps /lora-adapters /docs /redoc /openapi.json "
        "/is_sleeping /is_paused /is_scaling_elastic_ep /tools /cors-proxy",
        "engine_control": "/pause /resume /abort_requests /abort_request /update_weights /update_weights_from_disk "
        "/update_weights_from_tensor /init_weights_update_group /init_weight_transfer_engine /get_world_size "
        "/get_weights_by_name /scale_elastic_ep /collective_rpc /sleep /wake_up /flush_cache /reset_prefix_cache "
        "/reset_mm_cache /reset_encoder_cache /start_profile /stop_profile /load_lora_adapter /unload_lora_adapter "
        "/v1/load_lora_adapter /v1/unload_lora_adapter /models/load /models/unload /release_memory_occupation "
        "/resume_memory_occupation /shutdown",
        "store": "/v1/files /v1/uploads /v1/batches /v1/vector_stores /v1/assistants /v1/threads /v1/conversations "
        "/v1/containers /v1/evals",
    }
)

FINE_TUNING: Final = "/v1/fine_tuning"  # and all below it: refused by the tier, or not served


def field_rule(name: str) -> str:
    """Return the rule under which a field is refused where it is not taken."""
    return FIELDS.get(name, UNKNOWN)


def path_rule(path: str) -> str:
    """Return the rule under which a path is refused that is no route of the gateway."""
    return PATHS.get(path.partition("?")[0].rstrip("/"), UNKNOWN)


def why(name: str) -> str:
    """Return the sentence on a field of the table; nothing on one that is not there."""
    rule = FIELDS.get(name)
    return "" if rule is None else RULES[rule]
