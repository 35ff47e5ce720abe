"""`threadloom webhooks`."""

from typing import Annotated

import typer

from threadloom.cli.options import ConfigFile, DataDir, settings_of, start
from threadloom.cli.output import AsJson, Columns, show_json, show_page, show_table
from threadloom.errors import StartError
from threadloom.types.webhooks import EventType, WebhookDelivery

DELIVERIES: Columns[WebhookDelivery] = {
    "id": lambda one: one.id,
    "event": lambda one: one.event_type,
    "about": lambda one: one.subject,
    "status": lambda one: one.status,
    "attempts": lambda one: one.attempts,
    "error": lambda one: one.error,
}

webhooks = typer.Typer(no_args_is_help=True, help="Whom projects tell of what happens.")


@webhooks.command("create")
def create_webhook(
    url: Annotated[str, typer.Argument(help="Where events are sent to.")],
    event: Annotated[
        list[str] | None,
        typer.Option(help="An event to tell of; several are possible, all if none."),
    ] = None,
    name: Annotated[str, typer.Option(help="What the endpoint is.")] = "webhook",
    project: Annotated[str, typer.Option(help="Made if there is none.")] = "default",
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Make an endpoint; print its id, and its secret, which is never shown again."""
    from threadloom.commands import webhooks as webhook_commands

    settings = settings_of(data_dir, config)
    made = webhook_commands.create(
        settings, project=project, name=name, url=url, events=event or ()
    )
    endpoint_id, secret = start(made)
    if as_json:
        show_json({"id": endpoint_id, "signing_secret": secret})
    else:
        typer.echo(f"{endpoint_id}\n{secret}")


@webhooks.command("list")
def list_webhooks(
    data_dir: DataDir = None, config: ConfigFile = None, as_json: AsJson = False
) -> None:
    """List the endpoints of all projects."""
    from threadloom.commands import webhooks as webhook_commands

    found = start(webhook_commands.show(settings_of(data_dir, config)))
    if as_json:
        show_json(found)
        return
    rows = [(one.id, one.project, one.name, one.url, one.events, one.status) for one in found]
    show_table(["id", "project", "name", "url", "events", "state"], rows)


@webhooks.command("delete")
def delete_webhook(endpoint_id: str, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """End an endpoint; what is pending is not sent."""
    from threadloom.commands import webhooks as webhook_commands

    start(webhook_commands.delete(settings_of(data_dir, config), endpoint_id))


@webhooks.command("test")
def try_webhook(
    endpoint_id: str,
    event: Annotated[EventType, typer.Option(help="What to tell of.")] = "thread.run.completed",
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Send an endpoint a sample event, and say what it answered."""
    from threadloom.commands import webhooks as webhook_commands

    reply = start(webhook_commands.test(settings_of(data_dir, config), endpoint_id, event))
    if reply.error:
        raise StartError(reply.error)
    typer.echo(f"The endpoint answered with status {reply.status}.")


@webhooks.command("deliveries")
def list_webhook_deliveries(
    endpoint_id: str,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show the newest deliveries of an endpoint."""
    from threadloom.commands import webhooks as webhook_commands

    found = start(webhook_commands.deliveries(settings_of(data_dir, config), endpoint_id))
    show_page(found, DELIVERIES, as_json=as_json)


@webhooks.command("replay")
def replay_webhook_delivery(
    delivery_id: str, data_dir: DataDir = None, config: ConfigFile = None
) -> None:
    """Send the event of a delivery once more, and print the id of the new one."""
    from threadloom.commands import webhooks as webhook_commands

    typer.echo(start(webhook_commands.replay(settings_of(data_dir, config), delivery_id)))
