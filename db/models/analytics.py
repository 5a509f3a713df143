"""Daily numbers, computed ahead for the dashboard (ERD §22)."""

from datetime import date

from sqlalchemy.orm import Mapped

from db.models.base import Base, Tenant, Timestamps, number, of_workspace, unique


class WorkspaceDailyStat(Tenant, Timestamps, Base):
    """One workspace's day."""

    __tablename__ = "workspace_daily_stats"
    __table_args__ = (of_workspace(), unique("stat_date", "stat_date"))

    stat_date: Mapped[date]
    leads_created: Mapped[int] = number()
    leads_won: Mapped[int] = number()
    total_executions: Mapped[int] = number()
    successful_executions: Mapped[int] = number()
    failed_executions: Mapped[int] = number()
    emails_sent: Mapped[int] = number()
    emails_opened: Mapped[int] = number()
