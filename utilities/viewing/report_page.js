'use strict';

// the table: a click on a heading sorts by it, a second one the other way round; what has no value stays below
const table = document.getElementById('cases');
const headings = [...table.tHead.rows[1].cells];
const natural = new Intl.Collator('en', {numeric: true});

function sortBy(heading) {
  const column = headings.indexOf(heading);
  const down = heading.getAttribute('aria-sort') === 'ascending';
  const value = row => row.cells[column].dataset.value;
  const compare = column ? (a, b) => Number(a) === Number(b) ? 0 : Number(a) - Number(b) : natural.compare;  // inf - inf is NaN
  const rows = [...table.tBodies[0].rows];
  const known = rows.filter(row => value(row) !== '');
  known.sort((a, b) => (down ? -1 : 1) * compare(value(a), value(b)));
  table.tBodies[0].append(...known, ...rows.filter(row => value(row) === ''));
  headings.forEach(other => other.removeAttribute('aria-sort'));
  heading.setAttribute('aria-sort', down ? 'descending' : 'ascending');
}
headings.forEach(heading => heading.firstChild.addEventListener('click', () => sortBy(heading)));

// the pictures: a click enlarges, another one or Escape goes back
const dialog = document.querySelector('dialog');
dialog.addEventListener('click', () => dialog.close());
document.querySelectorAll('figure > button').forEach(button => button.addEventListener('click', () => {
  const picture = button.firstElementChild;
  Object.assign(dialog.firstElementChild, {src: picture.src, alt: picture.alt});
  dialog.showModal();
}));

// the surfaces: uint16 -> mm, and Plotly draws those that are ticked
const chosen = document.getElementById('chosen');

function numbers(base64) {
  return new Uint16Array(Uint8Array.from(atob(base64), c => c.charCodeAt(0)).buffer);
}

function mesh(surface, name, color, opacity) {
  const vertices = numbers(surface.vertices), triangles = numbers(surface.triangles);
  const every = (array, k) => array.filter((_, n) => n % 3 === k);
  const [x, y, z] = [0, 1, 2].map(k => Float32Array.from(every(vertices, k), v => surface.origin[k] + surface.scale[k] * v));
  const [i, j, k] = [0, 1, 2].map(k => every(triangles, k));
  return {type: 'mesh3d', name, x, y, z, i, j, k, color, opacity, hoverinfo: 'skip',
          lighting: {ambient: 0.5, diffuse: 0.7, specular: 0.15, roughness: 0.7, fresnel: 0.05},
          lightposition: {x: -50000, y: -100000, z: 100000}};
}

function drawSurface() {
  const surfaces = chosen.value ? JSON.parse(document.getElementById('surfaces-' + chosen.value).textContent) : {};
  const meshes = [];
  for (const box of document.querySelectorAll('#choice input[type=checkbox]')) {
    box.disabled = chosen.value !== '' && !surfaces[box.name];
    box.parentElement.className = box.disabled ? 'off' : '';
    box.parentElement.lastElementChild.textContent = box.disabled ? (box.name in surfaces ? ': empty' : ': none') : '';
    if (box.checked && surfaces[box.name]) {
      meshes.push(mesh(surfaces[box.name], box.name, box.value, Number(document.getElementById('opacity').value)));
    }
  }
  const place = document.getElementById('surface');
  place.hidden = !chosen.value;
  if (place.hidden) {
    return;
  }
  const {color} = getComputedStyle(document.body);
  const axis = title => ({title: {text: title}, color, gridcolor: '#888888', zeroline: false, showspikes: false});
  const layout = {
    scene: {xaxis: axis('to the left'), yaxis: axis('to the back'), zaxis: axis('to the head'), aspectmode: 'data', dragmode: 'orbit',
            camera: {eye: {x: -0.6, y: -2, z: 0.5}, center: {x: 0, y: 0, z: -0.1}}},
    margin: {l: 0, r: 0, t: 0, b: 0}, paper_bgcolor: 'rgba(0, 0, 0, 0)', font: {color, family: 'sans-serif'}, showlegend: false,
    modebar: {bgcolor: 'rgba(0, 0, 0, 0)', color: '#888', activecolor: color},
    uirevision: 'the view stays when another case is chosen',
  };
  // by name, since some of the others would send the picture away
  const buttons = [['toImage', 'orbitRotation', 'pan3d', 'zoom3d', 'resetCameraDefault3d']];
  Plotly.react(place, meshes, layout, {displaylogo: false, responsive: true, modeBarButtons: buttons});
}

if (chosen) {
  document.getElementById('choice').addEventListener('change', drawSurface);
  document.querySelectorAll('a[data-case]').forEach(link => link.addEventListener('click', () => {
    chosen.value = link.dataset.case;
    drawSurface();
  }));
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', drawSurface);
}
