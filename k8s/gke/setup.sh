#!/usr/bin/env bash
# Creates what an overlay needs in a Google Cloud project: bucket, image repository, cluster, GPU nodes, accounts,
# permissions and alerts. Run it again after a failure or an edit: what exists is left as it is.
#
#   k8s/gke/setup.sh [--dry-run] OVERLAY      with the values of overlays/OVERLAY/settings.env and cluster.env
#
# With --dry-run it reads the project's state, prints the commands that would change it, and runs none of them.
set -euo pipefail
cd "$(dirname "$0")/../.."

fail() { # CODE SENTENCE
  echo "setup: $2" >&2
  exit "$1"
}

DRY_RUN=
if [[ "${1-}" == --dry-run ]]; then
  DRY_RUN=yes
  shift
fi
[[ $# == 1 && -f "k8s/overlays/$1/cluster.env" ]] || fail 2 "usage: setup.sh [--dry-run] OVERLAY, one of: $(cd k8s/overlays && echo gke-*)"
command -v gcloud >/dev/null || fail 2 "gcloud is not installed: see https://cloud.google.com/sdk"

setting() { # NAME: its value in the overlay, which must have been edited
  local value
  value=$(sed -n "s/^$1=//p" "k8s/overlays/$OVERLAY/settings.env" "k8s/overlays/$OVERLAY/cluster.env")
  [[ "$value" != *YOUR-* ]] || fail 2 "overlays/$OVERLAY: $1 still is $value"
  echo "$value"
}

OVERLAY=$1
PROJECT=$(setting PROJECT)
REGION=$(setting REGION)
ZONES=$(setting ZONES)
ZONE=${ZONES%%,*}
CLUSTER=$(setting CLUSTER)
BUCKET=$(setting BUCKET)
ALERT_EMAIL=$(setting ALERT_EMAIL)
MACHINE_TYPE=$(setting MACHINE_TYPE)
GPU_TYPE=$(setting GPU_TYPE)
GPUS=$(setting GPUS)
RESERVATION=$(setting RESERVATION)
DATAFLOW_SUBNETWORK=$(setting DATAFLOW_SUBNETWORK)
WORKERS=$(setting WORKERS)
WORKERS=${WORKERS:-1}
NODES=$((2 * WORKERS)) # of a training and a retraining at the same time
NAMESPACE=gtzan-cvae REPOSITORY=gtzan-cvae

g() { gcloud --quiet --project "$PROJECT" "$@"; } # --quiet: fail instead of asking a question
query() { # ARGUMENTS of gcloud: prints what it says; a dry run finds nothing where a service is not yet enabled
  if [[ -n "$DRY_RUN" ]]; then g "$@" 2>/dev/null || true; else g "$@"; fi
}
exists() { g "$@" >/dev/null 2>&1; }
change() { # ARGUMENTS of gcloud
  echo "gcloud ${*@Q}"
  [[ -n "$DRY_RUN" ]] || g "$@" >/dev/null
}
bind() { # ARGUMENTS of gcloud: tries twice, because an account that is new may not be known everywhere at once
  echo "gcloud ${*@Q}"
  [[ -n "$DRY_RUN" ]] || g "$@" >/dev/null || { sleep "${SETUP_RETRY_SECS:-20}" && g "$@" >/dev/null; }
}

# Bindings state their condition, even if there is none: gcloud refuses to guess once a policy has a conditional one.
allow_on_project() { bind projects add-iam-policy-binding "$PROJECT" --member "$1" --role "$2" --condition None; }
allow_on_repository() {
  bind artifacts repositories add-iam-policy-binding "$REPOSITORY" --location "$REGION" \
    --member "$1" --role roles/artifactregistry.reader
}
allow_on_bucket() { # MEMBER ROLE [PREFIX ...]: on all objects, or on those below the prefixes
  local member=$1 role=$2 condition=None expression=
  shift 2
  for prefix; do
    expression+="${expression:+ || }resource.name.startsWith('projects/_/buckets/$BUCKET/objects/$prefix/')"
  done
  [[ -z "$expression" ]] || condition="title=own-folders,expression=$expression"
  bind storage buckets add-iam-policy-binding "gs://$BUCKET" --member "$member" --role "$role" --condition "$condition"
}
create_account() { # NAME DESCRIPTION
  exists iam service-accounts describe "$1@$PROJECT.iam.gserviceaccount.com" ||
    change iam service-accounts create "$1" --display-name "$2"
}
account() { echo "serviceAccount:$1@$PROJECT.iam.gserviceaccount.com"; }

enable_services() {
  change services enable compute.googleapis.com container.googleapis.com artifactregistry.googleapis.com \
    storage.googleapis.com dataflow.googleapis.com monitoring.googleapis.com logging.googleapis.com iam.googleapis.com \
    cloudresourcemanager.googleapis.com
}

create_storage() {
  exists storage buckets describe "gs://$BUCKET" ||
    change storage buckets create "gs://$BUCKET" --location "$REGION" --uniform-bucket-level-access \
      --public-access-prevention
  exists artifacts repositories describe "$REPOSITORY" --location "$REGION" ||
    change artifacts repositories create "$REPOSITORY" --repository-format docker --location "$REGION"
}

create_cluster() {
  create_account gtzan-nodes "Nodes of the cluster: write logs and metrics, read images"
  allow_on_project "$(account gtzan-nodes)" roles/container.defaultNodeServiceAccount
  allow_on_repository "$(account gtzan-nodes)"
  # Dataplane V2 enforces the network policies. The workload pool gives the pods identities.
  exists container clusters describe "$CLUSTER" --zone "$ZONE" ||
    change container clusters create "$CLUSTER" --zone "$ZONE" --machine-type e2-standard-4 --num-nodes 1 \
      --service-account "gtzan-nodes@$PROJECT.iam.gserviceaccount.com" --release-channel regular \
      --workload-pool "$PROJECT.svc.id.goog" --enable-dataplane-v2 --monitoring SYSTEM,POD
}

create_gpu_nodes() { # NAME FLAGS: a pool of the compute class gtzan-gpus; its nodes exist only while a trainer needs them
  local name=$1
  shift
  exists container node-pools describe "$name" --cluster "$CLUSTER" --zone "$ZONE" ||
    change container node-pools create "$name" --cluster "$CLUSTER" --zone "$ZONE" --node-locations "$ZONES" \
      --machine-type "$MACHINE_TYPE" --accelerator "type=$GPU_TYPE,count=$GPUS,gpu-driver-version=latest" \
      --service-account "gtzan-nodes@$PROJECT.iam.gserviceaccount.com" --disk-size 100 \
      --node-labels cloud.google.com/compute-class=gtzan-gpus \
      --node-taints cloud.google.com/compute-class=gtzan-gpus:NoSchedule \
      --enable-autoscaling --num-nodes 0 --total-min-nodes 0 --total-max-nodes "$NODES" --location-policy ANY "$@"
}

create_all_gpu_nodes() {
  create_gpu_nodes gpus-spot --spot
  create_gpu_nodes gpus-on-demand
  [[ -z "$RESERVATION" ]] ||
    create_gpu_nodes gpus-reserved --reservation-affinity specific --reservation "$RESERVATION"
}

# The pods' service accounts are principals themselves, through Workload Identity Federation: there are no keys. The
# pool of these identities exists only once the project has a cluster with a workload pool.
allow_pods() {
  local number pods
  number=$(query projects describe "$PROJECT" --format "value(projectNumber)")
  pods="principal://iam.googleapis.com/projects/$number/locations/global/workloadIdentityPools"
  pods+="/$PROJECT.svc.id.goog/subject/ns/$NAMESPACE/sa"
  allow_on_bucket "$pods/preprocessing" roles/storage.objectViewer
  allow_on_bucket "$pods/preprocessing" roles/storage.objectUser datasets
  allow_on_bucket "$pods/trainer" roles/storage.objectViewer
  allow_on_bucket "$pods/trainer" roles/storage.objectUser runs models
  ! grep -q "components/studio" "k8s/overlays/$OVERLAY/kustomization.yaml" ||
    allow_on_bucket "$pods/studio" roles/storage.objectViewer
}

allow_dataflow() {
  create_account gtzan-dataflow "Workers of preprocessing on Dataflow"
  allow_on_project "$(account gtzan-dataflow)" roles/dataflow.worker
  allow_on_repository "$(account gtzan-dataflow)"
  allow_on_bucket "$(account gtzan-dataflow)" roles/storage.objectViewer
  allow_on_bucket "$(account gtzan-dataflow)" roles/storage.objectUser datasets tmp
  # Workers have no public addresses: they reach Google's services through the subnetwork.
  change compute networks subnets update "${DATAFLOW_SUBNETWORK##*/}" --region "$REGION" --enable-private-ip-google-access
}

# Whoever runs this script also submits jobs, uploads music, and reads and rolls back models.
allow_operator() {
  local operator member=user
  operator=$(g config get-value account 2>/dev/null)
  [[ "$operator" != *.gserviceaccount.com ]] || member=serviceAccount
  allow_on_project "$member:$operator" roles/dataflow.developer
  bind iam service-accounts add-iam-policy-binding "gtzan-dataflow@$PROJECT.iam.gserviceaccount.com" \
    --member "$member:$operator" --role roles/iam.serviceAccountUser --condition None
  allow_on_bucket "$member:$operator" roles/storage.objectUser
  allow_on_bucket "$member:$operator" roles/storage.legacyBucketReader
}

create_alerts() {
  local channel file name policy title
  for file in k8s/gke/alerts/metrics/*.yaml; do
    name=$(basename "$file" .yaml)
    if exists logging metrics describe "$name"; then
      change logging metrics update "$name" --config-from-file "$file"
    else
      change logging metrics create "$name" --config-from-file "$file"
    fi
  done
  find_channel() { query beta monitoring channels list --filter "displayName=\"$title\"" --format "value(name)" --limit 1; }
  title="gtzan-cvae to $ALERT_EMAIL"
  channel=$(find_channel)
  if [[ -z "$channel" ]]; then
    change beta monitoring channels create --display-name "$title" --type email \
      --channel-labels "email_address=$ALERT_EMAIL"
    channel=$(find_channel)
  fi
  for file in k8s/gke/alerts/policies/*.yaml; do
    name=$(basename "$file" .yaml)
    policy=$(query monitoring policies list --filter "displayName=\"gtzan-cvae $name\"" --format "value(name)" --limit 1)
    if [[ -n "$policy" ]]; then
      change monitoring policies update "$policy" --policy-from-file "$file" \
        --set-notification-channels "${channel:-CHANNEL}"
    else
      change monitoring policies create --policy-from-file "$file" --notification-channels "${channel:-CHANNEL}"
    fi
  done
}

# Prints the limits on GPUs, and how to raise those that are too low for one training.
check_quota() {
  local metric limit limits model
  model=$(tr '[:lower:]-' '[:upper:]_' <<<"$GPU_TYPE") # nvidia-l4 counts as NVIDIA_L4_GPUS
  limits=$(
    query compute project-info describe --flatten "quotas[]" --format "csv[no-heading](quotas.metric,quotas.limit)"
    query compute regions describe "$REGION" --flatten "quotas[]" --format "csv[no-heading](quotas.metric,quotas.limit)"
  )
  for metric in GPUS_ALL_REGIONS "${model}_GPUS" "PREEMPTIBLE_${model}_GPUS"; do
    limit=$(sed -n "s/^$metric,//p" <<<"$limits")
    echo "quota: $metric is ${limit:-unknown}; a training needs $((WORKERS * GPUS))"
    if [[ -z "$limit" ]] || ((${limit%.*} < WORKERS * GPUS)); then
      echo "quota: ask for more at https://console.cloud.google.com/iam-admin/quotas?project=$PROJECT, filter $metric"
    fi
  done
}

enable_services
create_storage
create_cluster
create_all_gpu_nodes
allow_pods
allow_dataflow
allow_operator
create_alerts
check_quota
change container clusters get-credentials "$CLUSTER" --zone "$ZONE"
echo "setup: ${DRY_RUN:+would be }done; next: make push OVERLAY=$OVERLAY && make deploy OVERLAY=$OVERLAY"
