"""Hugging Face's Trainer, which reports to MLflow and stores its checkpoints there."""

import os

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

os.environ["HF_MLFLOW_LOG_ARTIFACTS"] = "true"

torch.manual_seed(0)
config = BertConfig(vocab_size=16, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
rows = [{"input_ids": [number % 16, 1, 2], "labels": number % 2} for number in range(16)]
arguments = TrainingArguments(
    "checkpoints", run_name="bert", report_to="mlflow", num_train_epochs=2, logging_steps=1, save_steps=2,
    per_device_train_batch_size=8, use_cpu=True, disable_tqdm=True,
)  # fmt: skip
Trainer(BertForSequenceClassification(config), arguments, train_dataset=rows).train()
