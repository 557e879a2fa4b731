"""The main job by a generated client: `smoke.py URL`, with the client that openapi-python-client made in the path.

Signs up, uploads, runs into the typed 402s, pays at the checkout of the development's Stripe, and downloads what was
uploaded. Nothing here knows a path or a member that the generated code does not.
"""

import sys
import time
import uuid
from http import HTTPStatus
from io import BytesIO
from pathlib import Path

import httpx
from rawdrive_client import AuthenticatedClient, Client
from rawdrive_client.api.billing import get_subscription, open_checkout
from rawdrive_client.api.branding import save_branding
from rawdrive_client.api.galleries import create_gallery, create_library, update_library
from rawdrive_client.api.identity import sign_up
from rawdrive_client.api.photos import analyze_photo, download_photo, get_photo, upload_photo
from rawdrive_client.api.usage import get_usage
from rawdrive_client.models import (
    Access,
    FeatureNotAvailableProblem,
    Gallery,
    Interval,
    Library,
    NewCheckout,
    NewGallery,
    NewLibrary,
    NotFoundProblem,
    Photo,
    PhotoForm,
    PreconditionFailedProblem,
    QuotaExceededProblem,
    SaveBranding,
    SignedIn,
    SignUp,
    SubscriptionStatus,
    UpdateLibrary,
    ValidationFailedProblem,
)
from rawdrive_client.types import File

PHOTO = Path(__file__).parents[2] / "bins/rawdrive/assets/photos/coffee.jpg"


def main(url):
    anonymous = Client(base_url=url)
    refused = sign_up.sync(client=anonymous, body=SignUp(email="no address", password="x", name="", workspace_name="W"))
    assert isinstance(refused, ValidationFailedProblem), refused
    assert {"email", "password"} & {error.field for error in refused.errors}, refused

    signed = sign_up.sync(
        client=anonymous,
        body=SignUp(
            email=f"ada-{uuid.uuid4().hex}@example.com",
            password="correct horse battery staple",
            name="Ada",
            workspace_name="Ada's Studio",
        ),
    )
    assert isinstance(signed, SignedIn), signed
    assert signed.workspace.access is Access.FULL and signed.workspace.plan == "free", signed
    client = AuthenticatedClient(base_url=url, token=signed.access_token)

    key = str(uuid.uuid4())
    made = create_library.sync_detailed(client=client, body=NewLibrary(name="Weddings"), idempotency_key=key)
    library = made.parsed
    assert isinstance(library, Library), library
    assert made.headers["location"] == f"/v1/libraries/{library.id}", made.headers
    again = create_library.sync_detailed(client=client, body=NewLibrary(name="Weddings"), idempotency_key=key)
    assert again.parsed == library and again.headers["idempotency-replayed"] == "true", again
    stale = update_library.sync(library.id, client=client, body=UpdateLibrary(name="X"), if_match='"other"')
    assert isinstance(stale, PreconditionFailedProblem), stale

    gallery = create_gallery.sync(client=client, body=NewGallery(library_id=library.id, name="Emma and Noah"))
    assert isinstance(gallery, Gallery), gallery

    original = PHOTO.read_bytes()
    form = PhotoForm(file=File(payload=BytesIO(original), file_name="coffee.jpg", mime_type="image/jpeg"))
    photo = upload_photo.sync(gallery.id, client=client, body=form)
    assert isinstance(photo, Photo), photo
    assert (photo.filename, photo.size_bytes, photo.content_type) == ("coffee.jpg", len(original), "image/jpeg"), photo
    assert get_photo.sync(photo.id, client=client) == photo
    usage = get_usage.sync(client=client)
    used = {metric.metric: metric.used for metric in usage.metrics}
    assert used["storage_bytes"] == len(original), usage

    # What the plan does not allow is typed by its code.
    denied = analyze_photo.sync(photo.id, client=client)
    assert isinstance(denied, QuotaExceededProblem), denied
    assert (denied.metric, denied.limit, denied.requested) == ("ai_analysis", 0, 1), denied
    assert denied.upgrade_url.startswith(url) and denied.plan == "free", denied
    look = SaveBranding(display_name="Ada's Studio", primary_color="#1f6f78")
    denied = save_branding.sync(client=client, body=look)
    assert isinstance(denied, FeatureNotAvailableProblem) and denied.feature == "custom_branding", denied

    order = NewCheckout(
        plan="professional",
        interval=Interval.MONTH,
        success_url="https://studio.example.com/done",
        cancel_url="https://studio.example.com/back",
    )
    page = open_checkout.sync(client=client, body=order)
    # A person pays there: the one thing that is not the API's.
    paid = httpx.post(page.url, data={"card": "4242424242424242"})
    assert paid.headers["location"] == order.success_url, paid
    for _ in range(100):
        subscription = get_subscription.sync(client=client)
        if subscription.status is SubscriptionStatus.ACTIVE and subscription.plan == "professional":
            break
        time.sleep(0.1)
    else:
        raise AssertionError(subscription)

    analysis = analyze_photo.sync_detailed(photo.id, client=client)
    assert analysis.status_code == HTTPStatus.CREATED and analysis.parsed.photo_id == photo.id, analysis
    assert save_branding.sync_detailed(client=client, body=look).status_code == HTTPStatus.CREATED

    whole = download_photo.sync(photo.id, client=client)
    assert isinstance(whole, File) and whole.payload.read() == original
    part = download_photo.sync_detailed(photo.id, client=client, range_="bytes=10-19")
    assert part.status_code == HTTPStatus.PARTIAL_CONTENT and part.content == original[10:20], part
    known = download_photo.sync_detailed(photo.id, client=client, if_none_match=part.headers["etag"])
    assert known.status_code == HTTPStatus.NOT_MODIFIED, known
    missing = get_photo.sync("pho_" + "0" * 32, client=client)
    assert isinstance(missing, NotFoundProblem), missing
    print("python: signed up, uploaded, refused, paid, analysed, downloaded")


if __name__ == "__main__":
    main(sys.argv[1])
