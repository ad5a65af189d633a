"""A sample of served rows written by hand in aiconfigurator's layout."""

from pathlib import Path

HEADER = (
    "id,silicon_data_source,backend,backend_version,model_path,system,precision,mode,isl,osl,gemm_quant_mode,"
    "moe_quant_mode,batch_size,tp_size,pp_size,attention_dp_size,moe_tp_size,moe_ep_size,silicon_ttft_ms,"
    "silicon_tpot_ms"
)
GOOD = {
    "id": "x",
    "silicon_data_source": "source_file=a/b.csv; silicon_concurrency=16",
    "backend": "vllm",
    "backend_version": "0.12.0",
    "model_path": "Qwen/Qwen3-32B",
    "system": "h100_sxm",
    "precision": "",
    "mode": "agg",
    "isl": "1024",
    "osl": "128",
    "gemm_quant_mode": "",
    "moe_quant_mode": "",
    "batch_size": "16.0",
    "tp_size": "2.0",
    "pp_size": "1.0",
    "attention_dp_size": "",
    "moe_tp_size": "1.0",
    "moe_ep_size": "1.0",
    "silicon_ttft_ms": "180",
    "silicon_tpot_ms": "20",
}


def sample(path: Path, *rows: dict[str, str]) -> Path:
    """A file of rows that differ from GOOD as said."""
    lines = [HEADER, *(",".join((GOOD | row)[name] for name in HEADER.split(",")) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path
