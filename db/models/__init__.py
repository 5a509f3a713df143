"""All tables, by ERD section."""

from db.models.analytics import WorkspaceDailyStat
from db.models.base import Base
from db.models.billing import Subscription, SubscriptionPlan, UsageEvent, UsageQuota
from db.models.executions import (
    Effect,
    EventWake,
    ExecutionLog,
    ExecutionStep,
    MirrorCursor,
    WorkflowExecution,
)
from db.models.iam import ApiKey, IdempotencyKey, OAuthCredential, User, Workspace, WorkspaceMember
from db.models.leads import Lead, LeadEvent, LeadFieldData
from db.models.payloads import PayloadBlob, PayloadKey
from db.models.webhooks import WebhookDelivery, WebhookEndpoint
from db.models.workflows import FormField, Workflow, WorkflowEdge, WorkflowHook, WorkflowNode, WorkflowVersion

__all__ = [
    "ApiKey",
    "Base",
    "Effect",
    "EventWake",
    "ExecutionLog",
    "ExecutionStep",
    "FormField",
    "IdempotencyKey",
    "Lead",
    "LeadEvent",
    "LeadFieldData",
    "MirrorCursor",
    "OAuthCredential",
    "PayloadBlob",
    "PayloadKey",
    "Subscription",
    "SubscriptionPlan",
    "UsageEvent",
    "UsageQuota",
    "User",
    "WebhookDelivery",
    "WebhookEndpoint",
    "Workflow",
    "WorkflowEdge",
    "WorkflowExecution",
    "WorkflowHook",
    "WorkflowNode",
    "WorkflowVersion",
    "Workspace",
    "WorkspaceDailyStat",
    "WorkspaceMember",
]
