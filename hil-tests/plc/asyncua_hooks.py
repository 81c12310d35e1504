"""What asyncua does not do by itself, and the rig needs: it writes down what it is asked, keeps the
limits that it names, tells of queues that overflowed, and breaks as told.

Patched into its classes, so that everything else is asyncua's own behaviour.
"""

import asyncio
import json
import time

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.server.binary_server_asyncio import OPCUAProtocol
from asyncua.server.internal_session import InternalSession
from asyncua.server.internal_subscription import InternalSubscription
from asyncua.server.monitored_item_service import MonitoredItemService
from asyncua.server.subscription_service import SubscriptionService
from asyncua.server.uaprocessor import UaProcessor
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

OVERFLOW = 0x480
NAMES = {
    getattr(ua.ObjectIds, name): name.removesuffix("_Encoding_DefaultBinary").removesuffix("Request")
    for name in dir(ua.ObjectIds)
    if name.endswith("Request_Encoding_DefaultBinary")
}
# How many operations a request holds, by the name of the list in its parameters.
LISTS = {"Read": "NodesToRead", "Browse": "NodesToBrowse", "CreateMonitoredItems": "ItemsToCreate"}


class Log:
    """One JSON object a line."""

    def __init__(self, path: str):
        self.file = open(path, "a", encoding="utf-8", buffering=1)

    def __call__(self, event: str, **what) -> None:
        line = {"t": time.time_ns(), "event": event, **what}
        self.file.write(json.dumps(line, default=str) + "\n")


class Faults:
    """What is broken now."""

    def __init__(self):
        # Nothing is answered any more, to anybody.
        self.silent = False
        # So many notifications are lost on their way, and can be asked for again or not.
        self.swallow, self.forget = 0, False


def digest(der: bytes) -> str:
    return x509.load_der_x509_certificate(der).fingerprint(hashes.SHA256()).hex()


def install(options, log: Log, faults: Faults) -> None:
    _services(options, log, faults)
    _connections(log)
    _sessions(options, log)
    _subscriptions(options, log, faults)


def _services(options, log: Log, faults: Faults) -> None:
    process, send = UaProcessor._process_message, UaProcessor.send_response

    async def logged(self, typeid, requesthdr, seqhdr, body):
        name = NAMES.get(typeid.Identifier, str(typeid))
        if name not in ("Publish", "Write", "Call"):
            log("service", name=name)
        if options.no_subscriptions and name == "CreateSubscription":
            raise ServiceError(ua.StatusCodes.BadServiceUnsupported)
        return await process(self, typeid, requesthdr, seqhdr, body)

    def answered(self, requesthandle, seqhdr, response, msgtype=ua.MessageType.SecureMessage):
        if not faults.silent:
            send(self, requesthandle, seqhdr, response, msgtype)

    async def close(self):
        """A session goes with its connection, and its subscriptions wait for another one."""
        if options.sessions_end_with_connections and self.session is not None and self.session.is_activated():
            await self.session.close_session(False)
        await closed(self)

    closed = UaProcessor.close
    UaProcessor._process_message, UaProcessor.send_response, UaProcessor.close = logged, answered, close


def _connections(log: Log) -> None:
    made, lost = OPCUAProtocol.connection_made, OPCUAProtocol.connection_lost

    def connection_made(self, transport):
        log("connect", peer=str(transport.get_extra_info("peername")))
        made(self, transport)

    def connection_lost(self, error):
        log("disconnect", why=str(error))
        lost(self, error)

    OPCUAProtocol.connection_made, OPCUAProtocol.connection_lost = connection_made, connection_lost


def _within(options, kind: str, count: int, log: Log) -> None:
    if options.limit and count > options.limit:
        log("too-many", kind=kind, count=count)
        raise ServiceError(ua.StatusCodes.BadTooManyOperations)


def _sessions(options, log: Log) -> None:
    create, activate, close = (
        InternalSession.create_session,
        InternalSession.activate_session,
        InternalSession.close_session,
    )
    read, browse, write, call = (
        InternalSession.read,
        InternalSession.browse,
        InternalSession.write,
        InternalSession.call,
    )

    async def create_session(self, params, sockname=None):
        held = len(self.iserver._external_sessions)
        shown = digest(params.ClientCertificate) if params.ClientCertificate else None
        log(
            "session",
            id=str(self.session_id),
            name=params.SessionName,
            uri=params.ClientDescription.ApplicationUri,
            certificate=shown,
            timeout=params.RequestedSessionTimeout,
        )
        if options.max_sessions and held > options.max_sessions:
            await self.close_session()
            raise ServiceError(ua.StatusCodes.BadTooManySessions)
        return await create(self, params, sockname)

    def activate_session(self, params, peer_certificate):
        token = params.UserIdentityToken
        who = {"user": getattr(token, "UserName", None), "token": type(token).__name__}
        again = self.is_activated()
        try:
            result = activate(self, params, peer_certificate)
        except Exception as error:
            log("activate", id=str(self.session_id), ok=False, why=type(error).__name__ + str(getattr(error, "code", "")), **who)
            raise
        log("activate", id=str(self.session_id), ok=True, again=again, **who)
        return result

    async def close_session(self, delete_subs=True):
        log("close", id=str(self.session_id))
        await close(self, delete_subs)

    async def logged_read(self, params):
        if self.external:
            nodes = len(params.NodesToRead)
            _within(options, "read", nodes, log)
            log("read", nodes=nodes, max_age=params.MaxAge)
        return await read(self, params)

    async def logged_browse(self, params):
        if self.external:
            _within(options, "browse", len(params.NodesToBrowse), log)
        return await browse(self, params)

    async def logged_write(self, params):
        if self.external:
            log("write", nodes=[str(one.NodeId) for one in params.NodesToWrite])
        return await write(self, params)

    async def logged_call(self, params):
        if self.external:
            log("call", methods=[str(one.MethodId) for one in params])
        return await call(self, params)

    InternalSession.create_session, InternalSession.activate_session = create_session, activate_session
    InternalSession.close_session, InternalSession.read = close_session, logged_read
    InternalSession.browse, InternalSession.write, InternalSession.call = logged_browse, logged_write, logged_call


def _subscriptions(options, log: Log, faults: Faults) -> None:
    create, create_items = SubscriptionService.create_subscription, MonitoredItemService.create_monitored_items
    delete, transfer = SubscriptionService.delete_subscriptions, SubscriptionService.transfer_subscriptions
    common, pop = MonitoredItemService._make_monitored_item_common, InternalSubscription._pop_publish_result

    async def create_subscription(self, params, callback, session_id, request_callback=None):
        result = await create(self, params, callback, session_id, request_callback)
        if request_callback:
            log(
                "subscription",
                id=result.SubscriptionId,
                interval=params.RequestedPublishingInterval,
                keep_alive=params.RequestedMaxKeepAliveCount,
                lifetime=params.RequestedLifetimeCount,
            )
        return result

    async def delete_subscriptions(self, ids):
        log("unsubscription", ids=list(ids))
        return await delete(self, ids)

    async def transfer_subscriptions(self, params, session_id, callback):
        """Whole, unless asked to go silent: asyncua by itself answers good and publishes no more."""
        log("transfer", ids=[int(one) for one in params.SubscriptionIds])
        results = await transfer(self, params, session_id, callback)
        if not options.silent_after_transfer:
            for one in params.SubscriptionIds:
                sub = self.subscriptions.get(int(one))
                if sub is not None:
                    sub.pub_request_callback = callback.__self__.get_publish_request
        return results

    async def create_monitored_items(self, params):
        _within(options, "items", len(params.ItemsToCreate), log)
        results = await create_items(self, params)
        asked = [one.RequestedParameters for one in params.ItemsToCreate]
        log(
            "items",
            subscription=params.SubscriptionId,
            count=len(results),
            failed=sum(not one.StatusCode.is_good() for one in results),
            sampling=sorted({one.SamplingInterval for one in asked}),
            queue=sorted({one.QueueSize for one in asked}),
            discard_oldest=sorted({one.DiscardOldest for one in asked}),
            filters=sorted({str(one.Filter) for one in asked if one.Filter}),
        )
        return results

    def make_common(self, params):
        result, mdata = common(self, params)
        asked = params.RequestedParameters.SamplingInterval
        result.RevisedSamplingInterval = max(asked, options.min_sampling)
        if options.max_queue:
            result.RevisedQueueSize = mdata.queue_size = min(mdata.queue_size, options.max_queue)
        return result, mdata

    async def enqueue(self, mid, eventdata, size, queue):
        """A queue that is full says so in the status of what is left next to the gap."""
        waiting = queue.get(mid)
        if waiting is None:
            queue[mid] = [eventdata]
            await self._trigger_publish()
            return
        waiting.append(eventdata)
        if size and len(waiting) > size:
            del waiting[0]
            if size > 1 and isinstance(waiting[0], ua.MonitoredItemNotification):
                waiting[0] = _overflowed(waiting[0])

    def pop_result(self):
        result = pop(self)
        if result.NotificationMessage.NotificationData and self.pub_request_callback and faults.swallow:
            faults.swallow -= 1
            number = result.NotificationMessage.SequenceNumber
            log("swallowed", subscription=self.data.SubscriptionId, sequence=number)
            if faults.forget:
                self._not_acknowledged_results.pop(number, None)
            # What is sent in its place looks like the next one that would have been.
            return pop(self)
        return result

    SubscriptionService.create_subscription = create_subscription
    SubscriptionService.delete_subscriptions = delete_subscriptions
    SubscriptionService.transfer_subscriptions = transfer_subscriptions
    MonitoredItemService.create_monitored_items = create_monitored_items
    MonitoredItemService._make_monitored_item_common = make_common
    InternalSubscription._enqueue_event = enqueue
    InternalSubscription._pop_publish_result = pop_result


def _overflowed(item):
    value = item.Value
    code = (value.StatusCode.value if value.StatusCode else 0) | OVERFLOW
    copy = ua.MonitoredItemNotification()
    copy.ClientHandle = item.ClientHandle
    copy.Value = ua.DataValue(value.Value, ua.StatusCode(code), value.SourceTimestamp, value.ServerTimestamp)
    return copy
