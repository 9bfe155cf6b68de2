// One clip plays at a time; a line on its picture shows the position, and a click on the picture sets it.
const players = document.querySelectorAll("audio");

function showPosition(figure, audio) {
  figure.style.setProperty("--played", audio.currentTime / audio.duration || 0);
}

players.forEach(audio => {
  const figure = audio.closest("figure");
  const picture = figure.querySelector(".picture");
  audio.addEventListener("play", () => {
    players.forEach(other => other === audio || other.pause());
    figure.classList.add("started");
  });
  audio.addEventListener("timeupdate", () => showPosition(figure, audio));
  picture.addEventListener("click", event => {
    const box = picture.getBoundingClientRect();
    audio.currentTime = (event.clientX - box.left) / box.width * audio.duration;
    audio.play();
  });
});
